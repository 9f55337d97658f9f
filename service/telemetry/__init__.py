"""What the service tells its operators: logs, metrics and traces, none of which names a person."""
