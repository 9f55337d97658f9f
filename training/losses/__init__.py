"""Objectives as pure functions: margins on cosines, softmax, distillation, detection."""
