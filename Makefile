# Two commands do everything:  make report   and   make test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# KaTeX beside the notebooks, from where Quarto's pages load it
KATEX  := nbs/katex/katex.min.css
# One thread a process: on matrices this small, more threads are slower.
ENV    := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Which notebooks' cells `make test` runs, as nbdev_test takes it; all of them if this is empty
CELLS  :=

.PHONY: help install report test faults docs export clean

help:
	@echo "make report   run every notebook on the real table, build the book, print the headline table"
	@echo "make test     run every notebook's cells as tests, then tests/"
	@echo "make faults   kill workers, fill disks, send 100,000 bad inputs and ten million rows (about an hour)"
	@echo "make docs     build the book from the stored outputs (with Quarto where it is installed)"
	@echo "make export   write genmod_nb/ from the notebooks, and clean them"
	@echo "make clean    remove everything that was built"

$(STAMP): settings.ini setup.py constraints.txt package.json
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned requirements into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt "$$(sed -n 's/^torch==.*/&/p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt -e ".[data,baselines,search,scale,dev]"
	@touch $(STAMP)

$(KATEX): package.json
	@if command -v npm >/dev/null; then \
	   npm install --no-package-lock --no-audit --no-fund --loglevel=error && mkdir -p nbs/katex/fonts && \
	   cp node_modules/katex/dist/fonts/*.woff2 nbs/katex/fonts && \
	   cp node_modules/katex/dist/katex.min.js node_modules/katex/dist/katex.min.css nbs/katex && touch $(KATEX); \
	 else echo "npm is not installed: the offline book's equations will be MathML, it will have no search, and Quarto's book cannot be built"; fi

install: $(STAMP) $(KATEX)

report: $(STAMP) $(KATEX)
	@$(ENV) $(BIN)/python nbs/_offline/render.py --execute

test: $(STAMP) $(KATEX)
	$(ENV) $(BIN)/nbdev_test --n_workers 2 --do_print --timing $(CELLS)
	$(ENV) $(BIN)/python -m pytest -n 2 --dist loadgroup tests

faults: $(STAMP)
	$(ENV) $(BIN)/python -m pytest -n 2 --dist loadgroup --full tests/test_many.py tests/test_scale.py tests/test_hostile.py \
	  tests/test_margins.py tests/test_threads.py tests/test_reader.py tests/test_gan.py tests/test_lars.py

docs: $(STAMP) $(KATEX)
	@# _proc/ is made anew: nbdev would take what it processed last time, though the reference depends on the modules too
	@if ! command -v quarto >/dev/null; then $(BIN)/python nbs/_offline/render.py; \
	 elif [ -f $(KATEX) ]; then rm -rf _proc && $(BIN)/nbdev_docs; \
	 else echo "Quarto's book needs KaTeX for its equations: install npm, and run 'make docs' again"; exit 1; fi

export: $(STAMP)
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

clean:
	rm -rf $(VENV) _proc _docs _report nbs/katex node_modules build *.egg-info
