// Linked with 09_epoll_server by --wrap=epoll_ctl: every descriptor is watched for edges.
//
// Why: the program, which has to stay as it is, waits "until nothing has come for a second", and
// never reads its own eventfd. Level-triggered, that one is ready for ever once a callback has
// written to it, and the loop never ends, whatever a library does. By edges it is ready once a
// write, and the program ends when it says it does.

#include <sys/epoll.h>

extern "C" int __real_epoll_ctl(int epoll, int operation, int fd, epoll_event* event);

extern "C" int __wrap_epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  event->events |= EPOLLET;
  return __real_epoll_ctl(epoll, operation, fd, event);
}
