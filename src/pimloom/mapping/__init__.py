"""Mapping engines that targets share: how many copies of each layer, and where they go."""
