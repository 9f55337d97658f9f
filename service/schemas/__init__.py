"""What travels over HTTP, in and out. Fields are documented here once; OpenAPI is generated from them."""
