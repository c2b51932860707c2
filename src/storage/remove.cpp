// remove: what goes vanishes in one step, and is proved to be what was expected before it is deleted.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/digest.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

// Deleting a larger file takes long enough to be left to staging's thread.
constexpr off_t LARGE_FILE = 16 << 20;

class Remove final : public Mutation {
 public:
  Remove(std::string path, bool recursive, Expectation expectation)
      : path(std::move(path)), recursive(recursive), expectation(std::move(expectation)) {}

  int64_t growth(const Root& root) const override { return -contentAt(root, path); }

  Result<Entry> apply(Round& round) override {
    if (expectation.kind == Expectation::Kind::ABSENT) {
      return errorAt(ErrorCode::INVALID_ARGUMENT, path, "", " cannot be removed and expected to be absent");
    }
    auto place = round.root.locate(path);
    if (!place.ok()) return place.error();
    auto found = lookAt(place->folder, place->name, path);
    if (!found.ok()) return found.error();
    Status held = checkExpectation(expectation, *found, path);
    if (!held.ok()) return held.error();
    if (!*found) return errorAt(ErrorCode::NOT_FOUND, path, "there is no file or folder ");
    auto entry = entryAt(place->folder, place->name, path);
    if (!entry.ok()) return entry;
    Status removed = remove(round, *place, **found);
    if (!removed.ok()) return removed.error();
    round.applied({Committer::Applied::Kind::REMOVED, path, {}, {}});
    round.touch(kj::mv(place->folder));
    return entry;
  }

 private:
  Status remove(Round& round, const Root::Place& place, const struct stat& found) const {
    if (round.run != nullptr) return displace(round, place, found);
    const char* name = place.name.c_str();
    bool checked = expectation.kind == Expectation::Kind::VERSION;
    if (S_ISDIR(found.st_mode)) {
      if (recursive) return takeOut(round, place, found);
      // An empty folder has no content to lose, so its version is checked only once.
      if (unlinkat(place.folder, name, AT_REMOVEDIR) == 0) return okStatus();
      if (errno != ENOTEMPTY && errno != EEXIST) return failed();
      return notEmpty();
    }
    if (checked || found.st_size > LARGE_FILE) return takeOut(round, place, found);
    if (unlinkat(place.folder, name, 0) == 0) return okStatus();
    if (errno != EISDIR) return failed();
    return errorAt(ErrorCode::CONFLICT, path, "", " was changed by another program in the same moment");
  }

  // As part of a run: nothing is deleted that has content.
  Status displace(Round& round, const Root::Place& place, const struct stat& found) const {
    if (S_ISDIR(found.st_mode)) {
      if (unlinkat(place.folder, place.name.c_str(), AT_REMOVEDIR) == 0) {
        tellRemoved(round, path, 0, found);
        return okStatus();
      }
      if (errno != ENOTEMPTY && errno != EEXIST) return failed();
      if (!recursive) return notEmpty();
    }
    bool checked = expectation.kind == Expectation::Kind::VERSION;
    auto slot = storage::takeOut(round, place, path, found, checked);
    if (!slot.ok()) return slot.error();
    tellRemoved(round, path, slot->number, found);
    return okStatus();
  }

  Status takeOut(Round& round, const Root::Place& place, const struct stat& found) const {
    std::string out = round.staging.newName();
    int staging = round.staging.fd();
    if (round.disk.renameat2(place.folder, place.name.c_str(), staging, out.c_str(), 0) < 0) {
      // On a full disk there may be no room for the new name; removing must be possible even so.
      bool full = errno == ENOSPC || errno == EDQUOT;
      if (!full || S_ISDIR(found.st_mode)) return failed();
      if (!isUnchanged(place.folder, place.name, found)) return changedMeanwhile();
      return unlinkat(place.folder, place.name.c_str(), 0) == 0 ? okStatus() : Status(failed());
    }
    if (expectation.kind != Expectation::Kind::VERSION || isUnchanged(staging, out, found)) {
      round.staging.deleteSoon(std::move(out));
      return okStatus();
    }
    Status back = moveToAbsent({round.disk, staging, out, place.folder, place.name, path});
    return back.ok() ? changedMeanwhile() : keepBeside(round, place, out);
  }

  // What another program wrote could not be put back, because it has written again, or its folder is gone: it is kept
  // beside its place, or in the root.
  Error keepBeside(Round& round, const Root::Place& place, const std::string& out) const {
    std::string kept = place.name.substr(0, 200) + ".conflict-" + toHex(randomBytes(4));
    int staging = round.staging.fd();
    Status saved = moveToAbsent({round.disk, staging, out, place.folder, kept, path});
    if (!saved.ok()) saved = moveToAbsent({round.disk, staging, out, round.root.fd(), kept, path});
    if (!saved.ok()) {
      log::error("what another program wrote to ", path.c_str(), " is left in the staging folder as ", out.c_str());
      return changedMeanwhile();
    }
    return errorAt(
        ErrorCode::CONFLICT, path, "",
        " was changed by another program in the same moment; what it wrote is kept as " + escapeForTerminal(kept));
  }

  Error notEmpty() const {
    return errorAt(ErrorCode::NOT_EMPTY, path, "the folder ", " is not empty; remove it recursively");
  }
  Error failed() const { return errorFromErrno(errno, "cannot remove", path); }
  Error changedMeanwhile() const {
    return errorAt(ErrorCode::CONFLICT, path, "",
                   " was changed by another program in the same moment; it is left there");
  }

  const std::string path;
  const bool recursive;
  const Expectation expectation;
};

}  // namespace

std::unique_ptr<Mutation> makeRemove(std::string path, bool recursive, Expectation expectation) {
  return std::make_unique<Remove>(std::move(path), recursive, std::move(expectation));
}

}  // namespace capstan::storage
