"""``python -m llmnas``."""

from llmnas.cli import main

if __name__ == "__main__":
    main()
