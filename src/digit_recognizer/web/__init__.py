"""Web: the page to draw digits on."""
