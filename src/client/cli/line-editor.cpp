#include <capstan/client/cli/line-editor.h>

#include <histedit.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/standard-streams.h>

namespace capstan::cli {

namespace {

constexpr int HISTORY_LINES = 1000;
constexpr wchar_t CTRL_C = 3;

std::string inColumns(const std::vector<std::string>& names, unsigned width) {
  unsigned widest = 0;
  for (auto& name : names) widest = std::max(widest, displayWidth(name));
  size_t columns = std::max(1u, width / (widest + 2));
  size_t rows = (names.size() + columns - 1) / columns;
  std::string text;
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = row; i < names.size(); i += rows) {
      text += names[i];
      if (i + rows < names.size()) text.append(widest + 2 - displayWidth(names[i]), ' ');
    }
    text += "\r\n";
  }
  return text;
}

}  // namespace

struct LineEditor::Impl {
  LineEditor& outer;
  Runtime& runtime;
  const std::string prompt;
  const std::string historyFile;
  const Complete complete;
  DescriptorSource input;
  EditLine* editor = nullptr;
  History* history = nullptr;
  bool reading = false;
  bool interrupted = false;
  int endingSignal = 0;
  std::mbstate_t decoding{};

  Impl(LineEditor& outer, Runtime& runtime, std::string prompt, std::string historyFile, Complete complete)
      : outer(outer),
        runtime(runtime),
        prompt(std::move(prompt)),
        historyFile(std::move(historyFile)),
        complete(std::move(complete)),
        input(STDIN_FILENO, runtime.io.unixEventPort) {}

  static Impl& of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<Impl*>(data);
  }

  static char* promptOf(EditLine* editor) { return const_cast<char*>(of(editor).prompt.c_str()); }
  static int getCharacter(EditLine* editor, wchar_t* character) { return of(editor).nextCharacter(character); }
  static unsigned char onTab(EditLine* editor, int) { return of(editor).completeWord(); }
  static unsigned char onInterrupt(EditLine* editor, int) { return of(editor).giveUpLine(); }

  void open();
  int nextCharacter(wchar_t* character);
  kj::Promise<int> nextEvent();
  std::optional<wchar_t> decode(char byte);
  unsigned char completeWord();
  unsigned char giveUpLine();
  void remember(const std::string& line);
  unsigned rowsBefore(const char* end);
};

void LineEditor::Impl::open() {
  editor = el_init("capstan", stdin, stdout, stderr);
  KJ_REQUIRE(editor != nullptr, "the terminal cannot be used for editing");
  history = history_init();
  HistEvent event;
  ::history(history, &event, H_SETSIZE, HISTORY_LINES);
  ::history(history, &event, H_SETUNIQUE, 1);
  ::history(history, &event, H_LOAD, historyFile.c_str());
  el_set(editor, EL_CLIENTDATA, this);
  el_set(editor, EL_PROMPT, &promptOf);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_SIGNAL, 0);
  el_set(editor, EL_HIST, ::history, history);
  el_set(editor, EL_GETCFN, &getCharacter);
  el_source(editor, nullptr);
  // The wide form, because the other one leaks copies of the names.
  el_wset(editor, EL_ADDFN, L"capstan-complete", L"complete a word", &onTab);
  el_set(editor, EL_BIND, "^I", "capstan-complete", nullptr);
  el_wset(editor, EL_ADDFN, L"capstan-interrupt", L"give up this line", &onInterrupt);
  el_set(editor, EL_BIND, "^C", "capstan-interrupt", nullptr);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
}

// 0 when there is something to read, else the signal.
kj::Promise<int> LineEditor::Impl::nextEvent() {
  kj::Promise<int> any = input.whenReadable().then([]() { return 0; });
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT}) {
    any = any.exclusiveJoin(
        runtime.io.unixEventPort.onSignal(signal).then([](siginfo_t&& info) { return info.si_signo; }));
  }
  return any;
}

// What libedit calls for each character: the event loop turns here. 1 for a character, 0 at the end.
int LineEditor::Impl::nextCharacter(wchar_t* character) {
  for (;;) {
    switch (int signal = nextEvent().wait(runtime.io.waitScope)) {
      case 0: break;
      case SIGINT: *character = CTRL_C; return 1;
      case SIGWINCH: el_resize(editor); continue;
      case SIGCONT:
        // The shell above has put the terminal back into its own mode meanwhile.
        el_set(editor, EL_PREP_TERM, 0);
        el_set(editor, EL_PREP_TERM, 1);
        el_set(editor, EL_REFRESH);
        continue;
      default: endingSignal = 128 + signal; return 0;
    }
    char byte;
    ssize_t count = ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return 0;
    if (auto decoded = decode(byte)) {
      *character = *decoded;
      return 1;
    }
  }
}

std::optional<wchar_t> LineEditor::Impl::decode(char byte) {
  wchar_t character;
  size_t used = mbrtowc(&character, &byte, 1, &decoding);
  if (used == size_t(-2)) return std::nullopt;
  if (used != size_t(-1)) return character;
  decoding = {};
  return std::nullopt;
}

unsigned char LineEditor::Impl::completeWord() {
  const LineInfo* line = el_line(editor);
  std::string before(line->buffer, line->cursor);
  Completions found = complete(before);
  std::string replaced = before.substr(std::min(found.replaceFrom, before.size()));
  if (!found.insert.empty() && found.insert != replaced) {
    el_deletestr(editor, int(std::mbstowcs(nullptr, replaced.c_str(), 0)));
    el_insertstr(editor, found.insert.c_str());
    return CC_REFRESH;
  }
  if (found.candidates.empty()) return CC_REFRESH_BEEP;
  outer.hide();
  runtime.screen.draw(prompt + escapeForTerminal(before) + "\r\n" +
                      inColumns(found.candidates, runtime.screen.width()));
  outer.show();
  return CC_NORM;
}

void LineEditor::Impl::remember(const std::string& line) {
  HistEvent event;
  ::history(history, &event, H_ENTER, line.c_str());
}

// Leaves what was typed on the terminal, as other shells do.
unsigned char LineEditor::Impl::giveUpLine() {
  interrupted = true;
  const LineInfo* line = el_line(editor);
  unsigned below = rowsBefore(line->lastchar) - rowsBefore(line->cursor);
  runtime.screen.draw(std::string(below, '\n') + "^C\r\n");
  return CC_NEWLINE;
}

// Rows of the terminal that prompt and text take before this place in the line.
unsigned LineEditor::Impl::rowsBefore(const char* end) {
  const LineInfo* line = el_line(editor);
  std::string_view before(line->buffer, end - line->buffer);
  return (displayWidth(prompt) + displayWidth(before)) / std::max(1u, runtime.screen.width());
}

LineEditor::LineEditor(Runtime& runtime, std::string prompt, std::string historyFile, Complete complete)
    : impl(std::make_unique<Impl>(*this, runtime, std::move(prompt), std::move(historyFile), std::move(complete))) {
  impl->open();
}

LineEditor::~LineEditor() noexcept(false) {
  HistEvent event;
  // Without a history the shell is less comfortable, which is no reason to fail.
  Status made = makeDirectories(std::string(parentOf(impl->historyFile)));
  if (made.ok()) ::history(impl->history, &event, H_SAVE, impl->historyFile.c_str());
  history_end(impl->history);
  el_end(impl->editor);
}

LineEditor::Read LineEditor::readLine() {
  impl->interrupted = false;
  impl->reading = true;
  Transient* before = impl->runtime.screen.setTransient(this);
  int count = 0;
  const char* text = el_gets(impl->editor, &count);
  impl->runtime.screen.setTransient(before);
  impl->reading = false;
  Read read;
  read.interrupted = impl->interrupted;
  read.signal = impl->endingSignal;
  if (impl->interrupted) {
    read.line = "";
  } else if (text != nullptr && count > 0) {
    read.line = std::string(text, count);
    while (!read.line->empty() && (read.line->back() == '\n' || read.line->back() == '\r')) read.line->pop_back();
    if (!read.line->empty()) impl->remember(*read.line);
  } else {
    impl->runtime.screen.draw("\n");
  }
  return read;
}

void LineEditor::hide() {
  if (!impl->reading) return;
  unsigned rows = impl->rowsBefore(el_line(impl->editor)->cursor);
  std::string text = "\r";
  if (rows > 0) text += "\x1b[" + std::to_string(rows) + "A";
  impl->runtime.screen.draw(text + "\x1b[J");
}

void LineEditor::show() {
  if (impl->reading) el_set(impl->editor, EL_REFRESH);
}

}  // namespace capstan::cli
