"""llmnas: architecture search led by a language model, inside a time budget that it keeps."""
