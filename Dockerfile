# The service (`xvectors serve`) as a container: no compiler, no root, and nothing written outside /data.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/xvectors \
    && /opt/xvectors/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        -c constraints.txt '.[serve,postgres]' onnxruntime

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin xvectors
COPY --from=build /opt/xvectors /opt/xvectors
ENV PATH=/opt/xvectors/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XVECTORS_GALLERY=/data/gallery.sqlite
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["xvectors", "serve"]
CMD ["--host", "0.0.0.0", "--keys", "/data/keys.json"]
