"""Labels that are drawn: read polygons, lines, points and tables of coordinates, and burn them onto a scene's grid."""
