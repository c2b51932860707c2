#include <capstan/client/cli/screen.h>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace capstan::cli {

namespace {

bool isDumb() {
  const char* term = getenv("TERM");
  return term == nullptr || std::string_view(term).empty() || std::string_view(term) == "dumb";
}

// Blocks until all is written, also where somebody made the descriptor non-blocking.
int writeAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(count);
    } else if (errno == EAGAIN) {
      pollfd waiting{fd, POLLOUT, 0};
      poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

Screen::Screen(int outFd, int errFd)
    : outFd(outFd), errFd(errFd), outIsTerminal(isatty(outFd)), errIsTerminal(isatty(errFd)), dumb(isDumb()) {}

unsigned Screen::width() const {
  winsize size{};
  if (ioctl(errFd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

int Screen::write(Channel channel, std::string_view bytes) {
  if (bytes.empty()) return 0;
  Transient* hidden = isTerminal(channel) ? transient : nullptr;
  if (hidden != nullptr) hidden->hide();
  int problem = writeAll(fd(channel), bytes);
  if (hidden != nullptr) hidden->show();
  return problem;
}

void Screen::draw(std::string_view bytes) { writeAll(errFd, bytes); }

Transient* Screen::setTransient(Transient* next) { return std::exchange(transient, next); }

}  // namespace capstan::cli
