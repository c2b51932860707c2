#include <capstan/sync/local-mutations.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <functional>

#include <kj/debug.h>

#include <capstan/storage/mutations.h>
#include <capstan/storage/version.h>
#include <capstan/sync/local-folder.h>
#include <capstan/sync/local-put.h>

namespace capstan::sync {

namespace {

using storage::Mutation;

// What is in a folder changes its version, but it is the same folder. So it is looked at in the moment of the change
// whether it is the one that was expected, and the mutation expects the version of that moment.
class OfFolder final : public Mutation {
 public:
  using Make = std::function<std::unique_ptr<Mutation>(Expectation)>;
  OfFolder(std::string path, Node expected, Make make)
      : path(std::move(path)), expected(std::move(expected)), make(std::move(make)) {}

  Result<Entry> apply(storage::Round& round) override {
    auto status = round.root.stat(path);
    if (!status.ok()) return status.error();
    bool isSame =
        S_ISDIR(status->st_mode) && (expected.identity == 0 || expected.identity == storage::inodeIdentity(*status));
    if (!isSame) return errorAt(ErrorCode::CONFLICT, path, "", " was replaced meanwhile; it is left as it is");
    inner = make({Expectation::Kind::VERSION, storage::versionOf(*status)});
    return inner->apply(round);
  }

  void finish(bool ok) override {
    if (inner) inner->finish(ok);
  }

 private:
  const std::string path;
  const Node expected;
  const Make make;
  std::unique_ptr<Mutation> inner;
};

std::unique_ptr<Mutation> expecting(const std::string& path, const std::optional<Node>& node, OfFolder::Make make) {
  if (node && node->type == EntryType::DIRECTORY) {
    return std::make_unique<OfFolder>(path, *node, std::move(make));
  }
  return make(expectationOf(node));
}

Attributes metadataOf(const Node& node) {
  if (node.type == EntryType::DIRECTORY) return {node.mode, std::nullopt};
  if (node.type == EntryType::SYMLINK) return {std::nullopt, node.mtime};
  return attributesOf(node);
}

}  // namespace

std::unique_ptr<Mutation> mutationOf(const Operation& operation) {
  const std::string& path = operation.path;
  switch (operation.kind) {
    case Operation::Kind::MAKE_FOLDER: return storage::makeMakeDirectory(path, metadataOf(operation.node), false);
    case Operation::Kind::MAKE_SYMLINK: {
      storage::SymlinkOptions options{path, operation.node.target, expectationOf(operation.expected), {}, false};
      options.attributes.mtime = operation.node.mtime;
      return storage::makeSymlink(std::move(options));
    }
    case Operation::Kind::SET_METADATA:
      return expecting(path, operation.expected, [path, wanted = metadataOf(operation.node)](Expectation expectation) {
        return storage::makeSetMetadata(path, wanted, std::move(expectation));
      });
    case Operation::Kind::REMOVE:
      return expecting(path, operation.expected, [path](Expectation expectation) {
        return storage::makeRemove(path, false, std::move(expectation));
      });
    case Operation::Kind::MOVE:
      return expecting(
          operation.source, operation.sourceNode,
          [from = operation.source, path, to = expectationOf(operation.expected)](Expectation expectation) {
            return storage::makeRename({from, path, std::move(expectation), to, false});
          });
    case Operation::Kind::PUT:
    case Operation::Kind::COPY:
    case Operation::Kind::AGREE:
    case Operation::Kind::FORGET: break;
  }
  KJ_FAIL_REQUIRE("not an operation that changes a side by itself", nameOf(operation.kind).data());
}

WritableFolders::WritableFolders(int root, const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    kj::AutoCloseFd fd = openBelow(root, folder, O_RDONLY | O_DIRECTORY);
    struct stat status;
    if (fd.get() < 0 || fstat(fd, &status) < 0 || (status.st_mode & S_IRWXU) == S_IRWXU) continue;
    mode_t mode = status.st_mode & 07777;
    if (fchmod(fd, mode | S_IRWXU) == 0) changed.push_back({kj::mv(fd), mode});
  }
}

WritableFolders::~WritableFolders() {
  for (Changed& folder : changed) (void)fchmod(folder.fd, folder.mode);
}

}  // namespace capstan::sync
