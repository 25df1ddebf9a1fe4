"""The kinds of deal that people make over the backbone. They stand on the core; nothing in the core knows of them."""
