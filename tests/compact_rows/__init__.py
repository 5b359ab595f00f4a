"""Every form that channels are followed through, and what taking them out must come to."""

from tests.compact_models import Row
from tests.compact_rows.absorbing import ABSORBED, NOT_ABSORBED
from tests.compact_rows.chains import ACTIVATIONS, CHAINS
from tests.compact_rows.hostile import HOSTILE
from tests.compact_rows.joins import JOINS
from tests.compact_rows.layouts import GROUPS, LAYOUTS, SIZES
from tests.compact_rows.quantised import FUSED, QUANTISED

ROWS: list[Row] = [
    *CHAINS,
    *ACTIVATIONS,
    *JOINS,
    *GROUPS,
    *LAYOUTS,
    *QUANTISED,
    *FUSED,
    *ABSORBED,
    *NOT_ABSORBED,
    *SIZES,
    *HOSTILE,
]
