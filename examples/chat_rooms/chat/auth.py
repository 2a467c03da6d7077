"""Login with a name and a password, and the users that tokens stand for."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from fastapi import Query, WebSocketException, status
from sqlalchemy import select

from chat.database import SessionLocal, User

SECRET = os.environ.get("JWT_SECRET", "a secret of at least thirty-two bytes")


def password_hash(name: str, password: str) -> str:
    return hashlib.scrypt(password.encode(), salt=name.encode(), n=2**10, r=8, p=1).hex()[:100]


def token_for(user: User) -> str:
    return jwt.encode({"sub": str(user.id), "exp": datetime.now(UTC) + timedelta(hours=1)}, SECRET, algorithm="HS256")


def current_user(token: Annotated[str, Query()] = "") -> User:
    try:
        user_id = jwt.decode(token, SECRET, algorithms=["HS256"])["sub"]
    except jwt.InvalidTokenError:
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION, "log in first") from None
    with SessionLocal() as session:
        user = session.scalar(select(User).where(User.id == int(user_id)))
    if user is None:
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION, "no such user")
    return user
