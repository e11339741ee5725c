"""Creates Pagure's tables, and a user with an API token, which it prints.

Run by Pagure's Python: `pagure_user.py USER PASSWORD`.
"""

import datetime as dt
import sys

import bcrypt
import pagure.lib.query
from pagure.config import config
from pagure.lib import model, model_base

user, password = sys.argv[1:]
model.create_tables(config["DB_URL"], acls=config["ACLS"])
session = model_base.create_session(config["DB_URL"])
pagure.lib.query.set_up_user(session, user, "A Robot", f"{user}@example.com")
account = pagure.lib.query.get_user(session, user)
# Hash as Pagure does, but cheaply, because each request of a push verifies it.
account.password = f"$2${bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}"
account.token = None
pagure.lib.query.add_token_to_user(
    session,
    project=None,
    acls=["create_project", "modify_project"],
    username=user,
    expiration_date=dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=2),
)
session.commit()
sys.stdout.write(f"{account.tokens[0].id}\n")
