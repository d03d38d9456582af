"""The registry of devices and the credentials they hold."""
