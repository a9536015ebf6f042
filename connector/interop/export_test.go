package interop

// ParseEnlist is parseEnlist, for its fuzz target.
var ParseEnlist = parseEnlist
