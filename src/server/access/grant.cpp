#include <capstan/server/access/grant.h>

#include <capstan/base/clock.h>
#include <capstan/base/text.h>

namespace capstan::server {

namespace {

int64_t earliest(int64_t a, int64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// The one whose own time is over.
const Grant& overOf(const Grant& grant) {
  const Grant* each = &grant;
  while (each->terms.expires != grant.expires && each->parent != nullptr) each = each->parent.get();
  return *each;
}

}  // namespace

Grant::Grant(std::string id, std::shared_ptr<const Grant> parent, ShareTerms terms, int64_t made)
    : id(std::move(id)),
      parent(std::move(parent)),
      terms(std::move(terms)),
      made(made),
      expires(earliest(this->terms.expires, this->parent == nullptr ? 0 : this->parent->expires)) {}

std::shared_ptr<Grant> Grant::newOwner() {
  ShareTerms terms;
  terms.rights = Rights::all();
  return std::make_shared<Grant>(OWNER_GRANT, nullptr, std::move(terms), 0);
}

bool Grant::isFrom(const Grant& ancestor) const {
  for (const Grant* each = this; each != nullptr; each = each->parent.get()) {
    if (each->id == ancestor.id) return true;
  }
  return false;
}

std::optional<Error> Grant::ended() const {
  if (!isRevoked() && expires == 0) return std::nullopt;
  return endedAt(wallClock());
}

std::optional<Error> Grant::endedAt(int64_t time) const {
  if (isRevoked()) {
    return Error{
        ErrorCode::REVOKED, nameFor(*this, *this) + " was revoked; ask whoever gave it to you for a new one", {}};
  }
  if (expires != 0 && time >= expires) {
    return Error{ErrorCode::EXPIRED,
                 nameFor(*this, overOf(*this)) + " has expired; ask whoever gave it to you for a new one",
                 {}};
  }
  return std::nullopt;
}

std::string nameFor(const Grant& held, const Grant& grant) {
  if (held.id != grant.id) return ANCESTOR;
  if (grant.terms.label.empty()) return "the share " + grant.id;
  return "the share \"" + escapeForTerminal(grant.terms.label) + "\"";
}

}  // namespace capstan::server
