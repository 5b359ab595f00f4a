"""How the zoo of models is made and measured; nothing here is part of the installed package."""
