"""Real servers for benchmarks and system tests, each a process of its own."""
