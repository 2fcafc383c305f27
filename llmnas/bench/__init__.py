"""Benches: what llmnas promises, measured on the machine at hand. `llmnas bench --help` lists them."""
