FROM python:3.12-slim

# The GPU build that the package asks for needs libraries this image has not; the CPU build takes its place.
COPY pyproject.toml README.md LICENSE /src/
COPY onnx_clp /src/onnx_clp
RUN pip install --no-cache-dir '/src[report]' \
    && pip uninstall --yes onnxruntime-gpu \
    && pip install --no-cache-dir --force-reinstall --no-deps 'onnxruntime>=1.24' \
    && rm -rf /src \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin onnx-clp

USER 10001
WORKDIR /work
ENV MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["onnx-clp"]
CMD ["--help"]
