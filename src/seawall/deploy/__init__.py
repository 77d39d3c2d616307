"""The same declaration elsewhere: objects for a cluster, an image, files for other supervisors."""
