// The specification of what is decided about one path: each combination of what was agreed, what is here and what is at
// the server, in each mode. What concerns several paths is in plan-moves-test.cpp.
#include <gtest/gtest.h>

#include <capstan/sync/plan.h>

namespace capstan::sync {
namespace {

// "-": nothing. Files: "1", "2", "3" by content; "m": content 1 with another mode, "n": with another time too.
// Folders: "d", "e" with another mode. Symlinks: "s", "t" with another target.
std::optional<Node> nodeOf(char kind) {
  if (kind == '-') return std::nullopt;
  Node node;
  node.stamp = std::string(1, kind);
  switch (kind) {
    case 'd':
    case 'e':
      node.type = EntryType::DIRECTORY;
      node.mode = kind == 'd' ? 0755 : 0700;
      break;
    case 's':
    case 't':
      node.type = EntryType::SYMLINK;
      node.target = kind;
      break;
    default:
      node.type = EntryType::FILE;
      node.size = 10;
      node.mode = kind == 'm' || kind == 'n' ? 0600 : 0644;
      node.digest = kind == 'm' || kind == 'n' ? "1" : std::string(1, kind);
      node.mtime = kind == 'm' ? 1 : kind == 'n' ? 9 : kind - '0';
  }
  return node;
}

std::string shortName(const Operation& operation) {
  std::string side = operation.side == Side::LOCAL ? "L:" : "R:";
  std::string at = operation.path == "f" ? "" : "(" + operation.path + ")";
  switch (operation.kind) {
    case Operation::Kind::AGREE: return "agree";
    case Operation::Kind::FORGET: return "forget";
    case Operation::Kind::MAKE_FOLDER: return side + "folder" + at;
    case Operation::Kind::MAKE_SYMLINK: return side + "symlink" + at;
    case Operation::Kind::SET_METADATA: return side + "metadata" + at;
    default: return side + std::string(nameOf(operation.kind)) + at;
  }
}

std::string planFor(Mode mode, char agreed, char local, char remote) {
  Difference difference;
  difference.path = "f";
  if (auto node = nodeOf(agreed)) difference.agreed = Agreed{*node, *node};
  difference.local = nodeOf(local);
  difference.remote = nodeOf(remote);
  difference.localChanged = local != agreed;
  difference.remoteChanged = remote != agreed;
  PlanOptions options;
  options.mode = mode;
  options.conflictPath = [](std::string_view path) { return std::string(path) + "~"; };
  std::string text;
  for (const Operation& operation : makePlan({difference}, options).operations) {
    text += (text.empty() ? "" : " ") + shortName(operation);
  }
  return text;
}

struct Row {
  const char* states;  // agreed, local, remote
  const char* push;
  const char* pull;
  const char* twoWay;
};

constexpr Row TABLE[] = {
    // Nothing was agreed.
    {"- - 1", "R:remove", "L:put", "L:put"},
    {"- - m", "R:remove", "L:put", "L:put"},
    {"- - n", "R:remove", "L:put", "L:put"},
    {"- - 2", "R:remove", "L:put", "L:put"},
    {"- - d", "R:remove", "L:folder", "L:folder"},
    {"- - e", "R:remove", "L:folder", "L:folder"},
    {"- - s", "R:remove", "L:symlink", "L:symlink"},
    {"- - t", "R:remove", "L:symlink", "L:symlink"},
    {"- 1 -", "R:put", "L:remove", "R:put"},
    {"- 1 1", "agree", "agree", "agree"},
    {"- 1 m", "R:metadata", "L:metadata", "L:metadata"},
    {"- 1 n", "R:metadata", "L:metadata", "L:metadata"},
    {"- 1 2", "R:put", "L:put", "L:move(f~) L:put R:put(f~)"},
    {"- 1 d", "R:remove R:put", "L:remove L:folder", "L:move(f~) L:folder R:put(f~)"},
    {"- 1 e", "R:remove R:put", "L:remove L:folder", "L:move(f~) L:folder R:put(f~)"},
    {"- 1 s", "R:put", "L:symlink", "L:move(f~) L:symlink R:put(f~)"},
    {"- 1 t", "R:put", "L:symlink", "L:move(f~) L:symlink R:put(f~)"},
    {"- n 1", "R:metadata", "L:metadata", "R:metadata"},
    {"- d -", "R:folder", "L:remove", "R:folder"},
    {"- d 1", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"- d m", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"- d n", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"- d 2", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"- d d", "agree", "agree", "agree"},
    {"- d e", "R:metadata", "L:metadata", "L:metadata"},
    {"- d s", "R:remove R:folder", "L:remove L:symlink", "L:move(f~) L:symlink R:folder(f~)"},
    {"- d t", "R:remove R:folder", "L:remove L:symlink", "L:move(f~) L:symlink R:folder(f~)"},
    {"- s -", "R:symlink", "L:remove", "R:symlink"},
    {"- s 1", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"- s m", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"- s n", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"- s 2", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"- s d", "R:remove R:symlink", "L:remove L:folder", "L:move(f~) L:folder R:symlink(f~)"},
    {"- s e", "R:remove R:symlink", "L:remove L:folder", "L:move(f~) L:folder R:symlink(f~)"},
    {"- s s", "agree", "agree", "agree"},
    {"- s t", "R:symlink", "L:symlink", "L:move(f~) L:symlink R:symlink(f~)"},
    // A file.
    {"1 - -", "forget", "forget", "forget"},
    {"1 - 1", "R:remove", "L:put", "R:remove"},
    {"1 - 3", "R:remove", "L:put", "L:put"},
    {"1 - m", "R:remove", "L:put", "L:put"},
    {"1 - n", "R:remove", "L:put", "L:put"},
    {"1 - d", "R:remove", "L:folder", "L:folder"},
    {"1 - s", "R:remove", "L:symlink", "L:symlink"},
    {"1 1 -", "R:put", "L:remove", "L:remove"},
    {"1 1 1", "agree", "agree", "agree"},
    {"1 1 3", "R:put", "L:put", "L:put"},
    {"1 1 m", "R:metadata", "L:metadata", "L:metadata"},
    {"1 1 n", "R:metadata", "L:metadata", "L:metadata"},
    {"1 1 d", "R:remove R:put", "L:remove L:folder", "L:remove L:folder"},
    {"1 1 s", "R:put", "L:symlink", "L:symlink"},
    {"1 2 -", "R:put", "L:remove", "R:put"},
    {"1 2 1", "R:put", "L:put", "R:put"},
    {"1 2 3", "R:put", "L:put", "L:move(f~) L:put R:put(f~)"},
    {"1 2 m", "R:put", "L:put", "R:put"},
    {"1 2 n", "R:put", "L:put", "R:put"},
    {"1 2 d", "R:remove R:put", "L:remove L:folder", "L:move(f~) L:folder R:put(f~)"},
    {"1 2 s", "R:put", "L:symlink", "L:move(f~) L:symlink R:put(f~)"},
    {"1 m -", "R:put", "L:remove", "R:put"},
    {"1 m 1", "R:metadata", "L:metadata", "R:metadata"},
    {"1 m 3", "R:put", "L:put", "L:put"},
    {"1 m m", "agree", "agree", "agree"},
    {"1 m n", "R:metadata", "L:metadata", "L:metadata"},
    {"1 m d", "R:remove R:put", "L:remove L:folder", "L:remove L:folder"},
    {"1 m s", "R:put", "L:symlink", "L:symlink"},
    {"1 n m", "R:metadata", "L:metadata", "R:metadata"},
    {"1 d -", "R:folder", "L:remove", "R:folder"},
    {"1 d 1", "R:remove R:folder", "L:remove L:put", "R:remove R:folder"},
    {"1 d 3", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"1 d m", "R:remove R:folder", "L:remove L:put", "R:remove R:folder"},
    {"1 d n", "R:remove R:folder", "L:remove L:put", "R:remove R:folder"},
    {"1 d d", "agree", "agree", "agree"},
    {"1 d s", "R:remove R:folder", "L:remove L:symlink", "L:move(f~) L:symlink R:folder(f~)"},
    {"1 s -", "R:symlink", "L:remove", "R:symlink"},
    {"1 s 1", "R:symlink", "L:put", "R:symlink"},
    {"1 s 3", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"1 s m", "R:symlink", "L:put", "R:symlink"},
    {"1 s n", "R:symlink", "L:put", "R:symlink"},
    {"1 s d", "R:remove R:symlink", "L:remove L:folder", "L:move(f~) L:folder R:symlink(f~)"},
    {"1 s s", "agree", "agree", "agree"},
    // A folder.
    {"d - -", "forget", "forget", "forget"},
    {"d - d", "R:remove", "L:folder", "R:remove"},
    {"d - e", "R:remove", "L:folder", "L:folder"},
    {"d - 2", "R:remove", "L:put", "L:put"},
    {"d - t", "R:remove", "L:symlink", "L:symlink"},
    {"d d -", "R:folder", "L:remove", "L:remove"},
    {"d d d", "agree", "agree", "agree"},
    {"d d e", "R:metadata", "L:metadata", "L:metadata"},
    {"d d 2", "R:remove R:folder", "L:remove L:put", "L:remove L:put"},
    {"d d t", "R:remove R:folder", "L:remove L:symlink", "L:remove L:symlink"},
    {"d e -", "R:folder", "L:remove", "R:folder"},
    {"d e d", "R:metadata", "L:metadata", "R:metadata"},
    {"d e e", "agree", "agree", "agree"},
    {"d e 2", "R:remove R:folder", "L:remove L:put", "L:remove L:put"},
    {"d e t", "R:remove R:folder", "L:remove L:symlink", "L:remove L:symlink"},
    {"d 1 -", "R:put", "L:remove", "R:put"},
    {"d 1 d", "R:remove R:put", "L:remove L:folder", "R:remove R:put"},
    {"d 1 e", "R:remove R:put", "L:remove L:folder", "R:remove R:put"},
    {"d 1 2", "R:put", "L:put", "L:move(f~) L:put R:put(f~)"},
    {"d 1 t", "R:put", "L:symlink", "L:move(f~) L:symlink R:put(f~)"},
    {"d s -", "R:symlink", "L:remove", "R:symlink"},
    {"d s d", "R:remove R:symlink", "L:remove L:folder", "R:remove R:symlink"},
    {"d s e", "R:remove R:symlink", "L:remove L:folder", "R:remove R:symlink"},
    {"d s 2", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"d s t", "R:symlink", "L:symlink", "L:move(f~) L:symlink R:symlink(f~)"},
    // A symlink.
    {"s - -", "forget", "forget", "forget"},
    {"s - s", "R:remove", "L:symlink", "R:remove"},
    {"s - t", "R:remove", "L:symlink", "L:symlink"},
    {"s - 2", "R:remove", "L:put", "L:put"},
    {"s - d", "R:remove", "L:folder", "L:folder"},
    {"s s -", "R:symlink", "L:remove", "L:remove"},
    {"s s s", "agree", "agree", "agree"},
    {"s s t", "R:symlink", "L:symlink", "L:symlink"},
    {"s s 2", "R:symlink", "L:put", "L:put"},
    {"s s d", "R:remove R:symlink", "L:remove L:folder", "L:remove L:folder"},
    {"s t -", "R:symlink", "L:remove", "R:symlink"},
    {"s t s", "R:symlink", "L:symlink", "R:symlink"},
    {"s t t", "agree", "agree", "agree"},
    {"s t 2", "R:symlink", "L:put", "L:move(f~) L:put R:symlink(f~)"},
    {"s t d", "R:remove R:symlink", "L:remove L:folder", "L:move(f~) L:folder R:symlink(f~)"},
    {"s 1 -", "R:put", "L:remove", "R:put"},
    {"s 1 s", "R:put", "L:symlink", "R:put"},
    {"s 1 t", "R:put", "L:symlink", "L:move(f~) L:symlink R:put(f~)"},
    {"s 1 2", "R:put", "L:put", "L:move(f~) L:put R:put(f~)"},
    {"s 1 d", "R:remove R:put", "L:remove L:folder", "L:move(f~) L:folder R:put(f~)"},
    {"s d -", "R:folder", "L:remove", "R:folder"},
    {"s d s", "R:remove R:folder", "L:remove L:symlink", "R:remove R:folder"},
    {"s d t", "R:remove R:folder", "L:remove L:symlink", "L:move(f~) L:symlink R:folder(f~)"},
    {"s d 2", "R:remove R:folder", "L:remove L:put", "L:move(f~) L:put R:folder(f~)"},
    {"s d d", "agree", "agree", "agree"},
};

TEST(Plan, DecidesAboutOnePathAsTheTableSays) {
  for (const Row& row : TABLE) {
    char agreed = row.states[0], local = row.states[2], remote = row.states[4];
    EXPECT_EQ(planFor(Mode::PUSH, agreed, local, remote), row.push) << "push " << row.states;
    EXPECT_EQ(planFor(Mode::PULL, agreed, local, remote), row.pull) << "pull " << row.states;
    EXPECT_EQ(planFor(Mode::TWO_WAY, agreed, local, remote), row.twoWay) << "two-way " << row.states;
  }
}

}  // namespace
}  // namespace capstan::sync
