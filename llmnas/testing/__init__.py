"""Contract suites and a faulty model server, for tests of llmnas and of its extensions."""
