"""What installs under the name of the product: `facemargin.client` talks to a running service."""
