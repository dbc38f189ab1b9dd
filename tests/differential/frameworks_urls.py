"""The URLs of the Django application in `frameworks.py`."""

from django.urls import path

from tests.differential.frameworks import PATHS, django_view

urlpatterns = [path(each[1:], django_view(("read",) if number % 2 else ())) for number, each in enumerate(PATHS)]
