"""Web page to draw digits on."""
