"""The page of both chats."""

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<form id="form"><input id="text" autocomplete="off" autofocus> <button>Send</button></form>
<ul id="messages"></ul>
<script>
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/ws/${Date.now()}`);
  socket.onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("messages").append(item);
  };
  document.getElementById("form").onsubmit = (event) => {
    event.preventDefault();
    const text = document.getElementById("text");
    socket.send(text.value);
    text.value = "";
  };
</script>
"""
