"""The HTTP/JSON twin of the lookup, for curl and browsers; loaded only where it is switched on."""
