"""An S3-compatible server on loopback, for tests: `S3Server` starts and stops moto's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from s3fs import S3FileSystem


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """Starts a server with an empty bucket; yields the environment that clients find it by."""
    command = (
        "from moto.server import ThreadedMotoServer as S; import sys; s = S(port=0); s.start();"
        "print('port', s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = next(line for line in process.stdout if line.startswith("port")).split()[1]
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            S3FileSystem.clear_instance_cache()  # of a server before this one
            fsspec.filesystem("s3").mkdir(bucket)
            yield environment
        finally:
            S3FileSystem.clear_instance_cache()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    finally:
        process.kill()
        process.wait()
