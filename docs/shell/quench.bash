# Completion of quench's command line for bash: commands, recipes, their parameters, figures, files.
_quench() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "run list new show replay watch help doctor --help --version --threads= --jit --trace -e -i" -- "$word") $(compgen -f -X '!*.lua' -- "$word"))
    return
  fi
  case $command in
    run)
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" list 2>/dev/null | awk '/^[a-z]/ {print $1}')" -- "$word") $(compgen -f -X '!*.lua' -- "$word"))
      else
        compopt -o nospace
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" run "${COMP_WORDS[2]}" --help 2>/dev/null | awk '/^(parameters|options):/ {on = 1} /^(scales:|claim)/ {on = 0} on && /^  [a-z]/ {print "--" $1 ($2 == "boolean" ? "" : "=")}')" -- "$word"))
      fi ;;
    show | replay) COMPREPLY=($(compgen -f -X '!*.png' -- "$word")) ;;
    watch) COMPREPLY=($(compgen -W "--once" -- "$word") $(compgen -d -- "$word") $(compgen -f -X '!*.jsonl' -- "$word")) ;;
    help) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" help 2>/dev/null | awk '/^  [a-z]/ {print $1}')" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}
complete -o filenames -F _quench quench
