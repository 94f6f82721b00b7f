# The demo on a CPU: trained receptive fields of large kernels, small ones and a ResNet.
#   docker build --tag replknet-analysis .
#   docker run --rm --volume "$PWD/figures:/project/figures" replknet-analysis
# Another command goes after the image's name: docker run --rm replknet-analysis erf --list-models 'replknet*'
FROM python:3.12-slim-bookworm

# PyTorch's index has builds without CUDA, which are a tenth as large as those of PyPI
ENV VENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /project
COPY . .
RUN scripts/setup.sh && useradd --uid 1000 --create-home reader && mkdir --parents figures && chown reader figures
USER 1000

CMD ["scripts/demo"]
