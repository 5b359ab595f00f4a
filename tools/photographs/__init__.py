"""The photographs that the package ships: written from pictures that are free to ship."""
