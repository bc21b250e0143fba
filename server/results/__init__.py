"""Pictures that are kept for a while, and the links that lead to them."""
