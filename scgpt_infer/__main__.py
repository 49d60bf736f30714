"""``python -m scgpt_infer``: the command line without its script."""

from scgpt_infer.cli import main

main()
