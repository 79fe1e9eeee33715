# Completion of quench's command line for bash: commands, recipes, their parameters, figures, files.

# The options that a command's --help lists, as --name= (flags: --name).
_quench_options() {
  "$@" --help 2>/dev/null | awk '/^(scales:|claim)/ {exit} /^  (--)?[a-z]/ && $1 != "quench" {sub(/^--/, "", $1); print "--" $1 ($2 == "boolean" ? "" : "=")}'
}

# The values that --help lists for an option: names of scales, choices. $1: the option without its dashes.
_quench_values() {
  local option=$1
  shift
  "$@" --help 2>/dev/null | awk -v option="$option" '/^[a-z]/ {part = $1}
    part == "scales:" && option == "scale" && /^  [a-z]/ {print $1}
    ($1 == option || $1 == "--" option) && match($0, /\[[^]]* \| [^]]*\]/) {
      s = substr($0, RSTART + 1, RLENGTH - 2); gsub(/ \| /, "\n", s); print s
    }'
}

# Adds options, behind whose = the value follows at once.
_quench_add_options() {
  compopt -o nospace
  COMPREPLY+=($(compgen -W "$(_quench_options "$@")" -- "$word"))
}

# Adds files, unless an option is being typed. $@: which ones, for compgen. bash quotes what it takes for files, also the = of
# an option, so that they must not be mixed.
_quench_files() {
  if [ "${word#-}" != "$word" ]; then return; fi
  compopt -o filenames
  mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$@" -- "${word#=}")
}

_quench() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  COMPREPLY=()
  # bash takes --name=value apart at the sign
  local at=$COMP_CWORD
  if [ "$word" != "=" ]; then at=$((COMP_CWORD - 1)); fi
  if [ "${COMP_WORDS[at]}" = "=" ]; then
    local option=${COMP_WORDS[at - 1]#--} about=("${COMP_WORDS[0]}" "$command")
    if [ "$command" = run ]; then about+=("${COMP_WORDS[2]}"); fi
    COMPREPLY=($(compgen -W "$(_quench_values "$option" "${about[@]}")" -- "${word#=}"))
    if [ ${#COMPREPLY[@]} -eq 0 ]; then _quench_files -f; fi
    return
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "run list new show replay watch replication quantize eval trajectory inspect help doctor --help --version --threads= --jit --trace -e -i" -- "$word"))
    _quench_files -f -X '!*.lua'
    return
  fi
  case $command in
    run)
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "all $("${COMP_WORDS[0]}" list 2>/dev/null | awk '/^[a-z]/ {print $1}')" -- "$word"))
        _quench_files -f -X '!*.lua'
      else
        _quench_add_options "${COMP_WORDS[0]}" run "${COMP_WORDS[2]}"
        if [ "${COMP_WORDS[2]}" = all ]; then _quench_files -f -X '!*.lua'; fi
      fi ;;
    replication | quantize | eval | trajectory)
      _quench_add_options "${COMP_WORDS[0]}" "$command"
      if [ "$command" != replication ]; then _quench_files -f; fi ;;
    show | replay) _quench_files -f -X '!*.png' ;;
    watch)
      COMPREPLY=($(compgen -W "--once" -- "$word"))
      _quench_files -d
      _quench_files -f -X '!*.jsonl' ;;
    help) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" help 2>/dev/null | awk '/^  [a-z]/ {print $1}')" -- "$word")) ;;
    *) _quench_files -f ;;
  esac
}
complete -F _quench quench
