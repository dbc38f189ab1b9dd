"""The pages of the shop: public ones, the API, and the admin."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mtls_middleware.integrations.rest_framework import CertificateAuthentication


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"welcome": request.user.get_username() or "guest"})


class Profile(APIView):
    """Who the certificate of this request belongs to."""

    authentication_classes = (CertificateAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        groups = [group.name for group in request.user.groups.all()]
        return Response({"user": request.user.get_username(), "groups": groups})


urlpatterns = [path("", home), path("api/profile", Profile.as_view()), path("admin/", admin.site.urls)]
urlpatterns += staticfiles_urlpatterns()  # only if DEBUG
