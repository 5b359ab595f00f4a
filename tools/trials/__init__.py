"""Trials behind figures and limits in the documents."""
