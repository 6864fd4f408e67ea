# The studio in a container, as a user without rights; docs/spaces.md has the commands.
FROM python:3.12-slim

# Index of the torch build: CPU by default; for CUDA https://download.pytorch.org/whl/cu130, for example.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /build

# Torch is the largest part and changes least, so it is a layer of its own.
COPY constraints.txt ./
RUN grep '^torch==' constraints.txt > torch.txt && pip install --index-url "$TORCH_INDEX" --requirement torch.txt

COPY pyproject.toml README.md LICENSE ./
COPY workbench/ workbench/
RUN pip install --constraint constraints.txt . && rm -rf /build

RUN useradd --uid 1000 --create-home studio && install --directory --owner studio /data
USER studio
WORKDIR /data
VOLUME /data

ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860')"]
ENTRYPOINT ["workbench", "app", "--no-browser"]
CMD ["--public"]
