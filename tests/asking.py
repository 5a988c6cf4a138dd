# SPDX-License-Identifier: Apache-2.0

"""A program that asks the control socket as another user: its arguments are the folder, the user id and the message."""

ASK = """
import os, socket, sys
folder, uid, message = sys.argv[1:]
os.chdir(folder)  # root's right; nobody else may enter what is above
os.setgroups([])
os.setresuid(*[int(uid)] * 3)
with socket.socket(socket.AF_UNIX) as client:
    client.connect("control")
    client.sendall(message.encode() + bytes(1))
    with client.makefile("rb") as answer:
        while (part := answer.read1()) and not part.endswith(bytes(1)):
            print(part.decode(), end="")
        print(part[:-1].decode())
"""
