"""Scripts that measure limner; every figure that is published comes from one of them."""
