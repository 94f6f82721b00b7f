# Short names for scripts/, each of which sets itself up.
.PHONY: demo test figures docs

demo:
	scripts/demo

test:
	scripts/test

figures:
	scripts/figures

docs:
	scripts/setup.sh docs
	.venv/bin/mkdocs build --strict
