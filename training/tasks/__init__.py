"""What can be learned: each task brings the modules, batches and loss; the engine knows nothing else of it."""
