"""A server that speaks S3, with one bucket. Prints its port, and ends with its standard input.

Each line it reads is an object's name: that object is two hours older then, and a line is printed back.
"""

import sys
from datetime import timedelta

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
client = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{port}",
    region_name="us-east-1",
    aws_access_key_id="tests",
    aws_secret_access_key="tests",
)
client.create_bucket(Bucket=sys.argv[1])
print(port, flush=True)
# What speaks S3 cannot say when an object was changed.
bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[sys.argv[1]]
for name in sys.stdin:
    bucket.keys[name.strip()].last_modified -= timedelta(hours=2)
    print(flush=True)
server.stop()
