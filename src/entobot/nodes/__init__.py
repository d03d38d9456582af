"""Nodes that run on one database: who they are, which are alive, who is connected where, what one may have missed."""
