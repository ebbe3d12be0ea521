"""The networks, one file each; they import nothing of the other packages."""
