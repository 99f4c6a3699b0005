// A directory that is being listed: it comes in pages, of which one is kept. Positions (telldir(3)) name a page and a
// place in it, so that a listing can go back to where it was. Pure; guarded by who has it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/entry.h"

namespace mesh {

class DirectoryPages {
 public:
  struct Page {
    std::size_t number = 0;
    std::vector<FileEntry> entries;
    bool is_last = true;
  };
  using PagePtr = std::shared_ptr<const Page>;
  struct Position {
    std::size_t page = 0;
    std::size_t place = 0;  ///< of page 0 the first two are "." and ".."
  };
  static constexpr std::size_t dots = 2;
  static constexpr int place_bits = 20;

  [[nodiscard]] static Position position(std::int64_t offset) {
    const auto at = static_cast<std::uint64_t>(offset);
    return {at >> place_bits, at & ((std::uint64_t{1} << place_bits) - 1)};
  }
  [[nodiscard]] static std::int64_t offset(const Position& at) {
    return static_cast<std::int64_t>((at.page << place_bits) | at.place);
  }
  /// Null: it is not the one that is kept.
  [[nodiscard]] PagePtr find(std::size_t number) const { return page_ && page_->number == number ? page_ : nullptr; }
  /// Behind which path page `number` begins; nothing where nobody has come so far.
  [[nodiscard]] std::optional<std::string> after(std::size_t number) const {
    if (number == 0) return std::string();
    return number <= ends_.size() ? std::optional(ends_[number - 1]) : std::nullopt;
  }
  /// `next`: behind which path the page after it begins.
  void put(PagePtr page, std::string next) {
    // What comes behind it is as it is now, too.
    if (ends_.size() > page->number) ends_.resize(page->number);
    if (page->number == ends_.size() && !page->is_last) ends_.push_back(std::move(next));
    page_ = std::move(page);
  }
  /// It is listed from its beginning again.
  void begin_anew() { page_.reset(); }

 private:
  PagePtr page_;
  std::vector<std::string> ends_;
};

}  // namespace mesh
