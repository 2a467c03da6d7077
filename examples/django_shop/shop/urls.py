from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from orders import views

urlpatterns = [
    path("", views.page),
    path("orders/", views.orders),
    path("token/", views.token),
    path("accounts/login/", LoginView.as_view()),
    path("accounts/logout/", LogoutView.as_view()),
]
