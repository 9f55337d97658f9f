"""The command line of training: one file a command. They import what they need when they run."""
