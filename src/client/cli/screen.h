// Standard output and standard error as the whole program shares them: what is a terminal and how wide, and the one
// line on it that comes and goes (progress, or a command being typed), which makes way for everything else that is
// written.
#pragma once

#include <string_view>

#include <capstan/base/error.h>

namespace capstan::cli {

// Something on the terminal that is not there to stay.
class Transient {
 public:
  virtual ~Transient() noexcept(false) = default;
  virtual void hide() = 0;  // takes it off the terminal, the cursor at the start of an empty line
  virtual void show() = 0;  // puts it back
};

enum class Channel { OUT, ERR };

// Belongs to one thread. Writes block.
class Screen {
 public:
  // Descriptors are not owned.
  Screen(int outFd = 1, int errFd = 2);
  virtual ~Screen() noexcept(false) = default;

  bool isTerminal(Channel channel) const { return channel == Channel::OUT ? outIsTerminal : errIsTerminal; }
  // Whether escape sequences may be written to it: a terminal, TERM is not "dumb" or missing.
  bool takesEscapes(Channel channel) const { return isTerminal(channel) && !dumb; }
  // Columns of the terminal on standard error now, 80 where it does not tell.
  virtual unsigned width() const;
  int fd(Channel channel) const { return channel == Channel::OUT ? outFd : errFd; }

  // All of `bytes`. The transient is hidden meanwhile if the channel is a terminal. Answers 0 or the errno.
  int write(Channel channel, std::string_view bytes);
  // For what a Transient itself draws, on standard error.
  virtual void draw(std::string_view bytes);

  // Null: there is none. The one before is answered, so that it can be put back. Neither is hidden or shown by this.
  Transient* setTransient(Transient* transient);

 private:
  const int outFd;
  const int errFd;
  const bool outIsTerminal;
  const bool errIsTerminal;
  const bool dumb;
  Transient* transient = nullptr;
};

}  // namespace capstan::cli
