"""What training minimises: objectives over classes, pairs, distillation, detection."""
